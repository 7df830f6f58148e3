//! The processes of the local stack: their names, their ports and what each waits for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One process of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Component {
    /// Apache Kafka, one node, broker and controller in one process.
    Kafka,
    /// The Confluent-compatible schema registry.
    Registry,
    /// The ClickHouse engine behind its HTTP interface.
    Clickhouse,
    /// The simulator.
    Mock,
    /// From the source into Kafka.
    Producer,
    /// From Kafka into ClickHouse.
    Ingester,
    /// PostgreSQL, where Airflow keeps its state.
    Postgresql,
    /// Takes the mails that Airflow sends, and shows them on a page.
    Mail,
    /// Airflow's pages and API.
    #[serde(rename = "airflow-api")]
    AirflowApi,
    /// Airflow's scheduler, which also runs the tasks.
    #[serde(rename = "airflow-scheduler")]
    AirflowScheduler,
    /// What reads Airflow's DAG files.
    #[serde(rename = "airflow-dags")]
    AirflowDags,
    /// Tells Prometheus of the whole: lag, age, what is missing.
    Exporter,
    /// Tells Prometheus of the machine.
    #[serde(rename = "node-exporter")]
    NodeExporter,
    /// Mails alerts.
    Alertmanager,
    /// Asks everything for its metrics, and decides on alerts.
    Prometheus,
}

/// A name that no component has.
#[derive(Debug, thiserror::Error)]
#[error("there is no component {0:?}: the components are {names}", names = names())]
pub struct UnknownComponent(String);

fn names() -> String {
    let names: Vec<_> = Component::every().map(Component::name).collect();
    names.join(", ")
}

impl Component {
    /// Every component of the pipeline, in the order in which they are started.
    pub const ALL: [Self; 6] = [
        Self::Kafka,
        Self::Registry,
        Self::Clickhouse,
        Self::Mock,
        Self::Producer,
        Self::Ingester,
    ];

    /// What `contrail start airflow` adds to a running stack, in the order in which they are started.
    pub const AIRFLOW: [Self; 5] = [
        Self::Postgresql,
        Self::Mail,
        Self::AirflowApi,
        Self::AirflowScheduler,
        Self::AirflowDags,
    ];

    /// What `contrail start observability` adds to a running stack, in the order in which they are started.
    pub const OBSERVABILITY: [Self; 5] = [
        Self::Mail,
        Self::Exporter,
        Self::NodeExporter,
        Self::Alertmanager,
        Self::Prometheus,
    ];

    /// What may join a running stack later, in the order in which they are started.
    pub fn later() -> impl Iterator<Item = Self> {
        let others = Self::OBSERVABILITY.into_iter();
        Self::AIRFLOW
            .into_iter()
            .chain(others.filter(|component| !Self::AIRFLOW.contains(component)))
    }

    /// Whether it joins a running stack only when it is asked for.
    pub fn is_later(self) -> bool {
        Self::later().any(|component| component == self)
    }

    /// Every component that there is, in the order in which they are started.
    pub fn every() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().chain(Self::later())
    }

    /// The name used on the command line, in the status and for the log file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Registry => "registry",
            Self::Clickhouse => "clickhouse",
            Self::Mock => "mock",
            Self::Producer => "producer",
            Self::Ingester => "ingester",
            Self::Postgresql => "postgresql",
            Self::Mail => "mail",
            Self::AirflowApi => "airflow-api",
            Self::AirflowScheduler => "airflow-scheduler",
            Self::AirflowDags => "airflow-dags",
            Self::Exporter => "exporter",
            Self::NodeExporter => "node-exporter",
            Self::Alertmanager => "alertmanager",
            Self::Prometheus => "prometheus",
        }
    }

    /// The port on which it serves, before the offset is added: of the mail catcher the page's, and of what
    /// serves nothing itself the one on which its health is asked for.
    pub const fn base_port(self) -> u16 {
        match self {
            Self::Kafka => 9092,
            Self::Registry => 8081,
            Self::Clickhouse => 8123,
            Self::Mock => 8000,
            Self::Producer => 8001,
            Self::Ingester => 8002,
            Self::Postgresql => POSTGRESQL_PORT,
            Self::Mail => 8025,
            Self::AirflowApi | Self::AirflowDags => 8085,
            Self::AirflowScheduler => AIRFLOW_LOG_PORT,
            Self::Exporter => 8003,
            Self::NodeExporter => NODE_EXPORTER_PORT,
            Self::Alertmanager => 9093,
            Self::Prometheus => 9090,
        }
    }

    /// Every port it listens on, before the offset is added: Kafka's controller has one of its own.
    pub const fn base_ports(self) -> &'static [u16] {
        match self {
            Self::Kafka => &[9092, KAFKA_CONTROLLER_PORT],
            Self::Registry => &[8081],
            Self::Clickhouse => &[8123],
            Self::Mock => &[8000],
            Self::Producer => &[8001],
            Self::Ingester => &[8002],
            Self::Postgresql => &[POSTGRESQL_PORT],
            Self::Mail => &[8025, SMTP_PORT],
            Self::AirflowApi => &[8085],
            Self::AirflowScheduler => &[AIRFLOW_LOG_PORT],
            Self::AirflowDags => &[],
            Self::Exporter => &[8003],
            Self::NodeExporter => &[NODE_EXPORTER_PORT],
            Self::Alertmanager => &[9093],
            Self::Prometheus => &[9090],
        }
    }

    /// What must be ready before it is started.
    pub const fn dependencies(self) -> &'static [Self] {
        match self {
            // The registry keeps its schemas in a file of its own, so it need not wait for Kafka.
            Self::Kafka
            | Self::Registry
            | Self::Clickhouse
            | Self::Mock
            | Self::Postgresql
            | Self::Mail
            // It goes on, and says so, while what it looks at is away.
            | Self::Exporter
            | Self::NodeExporter
            | Self::Alertmanager
            | Self::Prometheus => &[],
            Self::Producer => &[Self::Kafka, Self::Registry, Self::Mock],
            Self::Ingester => &[Self::Kafka, Self::Registry, Self::Clickhouse],
            Self::AirflowApi => &[Self::Postgresql],
            // The API's first start brings the database up to date.
            Self::AirflowScheduler | Self::AirflowDags => &[Self::Postgresql, Self::AirflowApi],
        }
    }

    /// Whether it runs on a Java virtual machine.
    pub const fn needs_java(self) -> bool {
        matches!(self, Self::Kafka | Self::Registry)
    }

    /// The program of this workspace that it is, if it is one.
    pub const fn binary(self) -> Option<&'static str> {
        match self {
            Self::Kafka
            | Self::Registry
            | Self::Postgresql
            | Self::Mail
            | Self::AirflowApi
            | Self::AirflowScheduler
            | Self::AirflowDags
            | Self::NodeExporter
            | Self::Alertmanager
            | Self::Prometheus => None,
            Self::Exporter => Some("contrail"),
            Self::Clickhouse => Some("clickhouse-embedded"),
            Self::Mock => Some("flight-mock"),
            Self::Producer => Some("flight-producer"),
            Self::Ingester => Some("flight-ingester"),
        }
    }
}

/// Where Kafka's controller listens, before the offset is added. Kafka's own default, 9093, is
/// the port of Prometheus' Alertmanager.
pub const KAFKA_CONTROLLER_PORT: u16 = 9094;
/// Where PostgreSQL listens, before the offset is added. Its own default, 5432, is where Debian's package starts a
/// server of the system's.
const POSTGRESQL_PORT: u16 = 5435;
/// Where the mail catcher takes mails, before the offset is added.
pub const SMTP_PORT: u16 = 1025;
/// Where the exporter of the machine listens, before the offset is added. Its own default, 9100, is where Debian's
/// package starts one of the system's.
const NODE_EXPORTER_PORT: u16 = 9091;
/// Where Airflow's scheduler serves the logs of running tasks, before the offset is added.
pub const AIRFLOW_LOG_PORT: u16 = 8793;

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad`, so that widths given to the formatter hold.
        f.pad(self.name())
    }
}

impl FromStr for Component {
    type Err = UnknownComponent;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::every()
            .find(|component| component.name() == name)
            .ok_or_else(|| UnknownComponent(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_earlier_in_the_starting_order() {
        let every: Vec<_> = Component::every().collect();
        for (index, component) in every.iter().enumerate() {
            for dependency in component.dependencies() {
                assert!(every[..index].contains(dependency), "{component}");
            }
        }
    }

    #[test]
    fn names_are_read_back_and_a_typo_lists_them() {
        for component in Component::every() {
            assert_eq!(component.name().parse::<Component>().unwrap(), component);
        }
        let message = "kafak".parse::<Component>().unwrap_err().to_string();
        assert!(
            message.contains("\"kafak\"") && message.contains("kafka, registry"),
            "{message}"
        );
    }
}
