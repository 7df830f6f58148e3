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
}

/// A name that no component has.
#[derive(Debug, thiserror::Error)]
#[error("there is no component {0:?}: the components are {names}", names = names())]
pub struct UnknownComponent(String);

fn names() -> String {
    Component::ALL.map(Component::name).join(", ")
}

impl Component {
    /// Every component, in the order in which they are started.
    pub const ALL: [Self; 6] = [
        Self::Kafka,
        Self::Registry,
        Self::Clickhouse,
        Self::Mock,
        Self::Producer,
        Self::Ingester,
    ];

    /// The name used on the command line, in the status and for the log file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Registry => "registry",
            Self::Clickhouse => "clickhouse",
            Self::Mock => "mock",
            Self::Producer => "producer",
            Self::Ingester => "ingester",
        }
    }

    /// The port on which it serves, before the offset is added.
    pub const fn base_port(self) -> u16 {
        match self {
            Self::Kafka => 9092,
            Self::Registry => 8081,
            Self::Clickhouse => 8123,
            Self::Mock => 8000,
            Self::Producer => 8001,
            Self::Ingester => 8002,
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
        }
    }

    /// What must be ready before it is started.
    pub const fn dependencies(self) -> &'static [Self] {
        match self {
            // The registry keeps its schemas in a file of its own, so it need not wait for Kafka.
            Self::Kafka | Self::Registry | Self::Clickhouse | Self::Mock => &[],
            Self::Producer => &[Self::Kafka, Self::Registry, Self::Mock],
            Self::Ingester => &[Self::Kafka, Self::Registry, Self::Clickhouse],
        }
    }

    /// Whether it runs on a Java virtual machine.
    pub const fn needs_java(self) -> bool {
        matches!(self, Self::Kafka | Self::Registry)
    }

    /// The program of this workspace that it is, if it is one.
    pub const fn binary(self) -> Option<&'static str> {
        match self {
            Self::Kafka | Self::Registry => None,
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

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad`, so that widths given to the formatter hold.
        f.pad(self.name())
    }
}

impl FromStr for Component {
    type Err = UnknownComponent;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|component| component.name() == name)
            .ok_or_else(|| UnknownComponent(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_earlier_in_the_starting_order() {
        for (index, component) in Component::ALL.iter().enumerate() {
            for dependency in component.dependencies() {
                assert!(Component::ALL[..index].contains(dependency), "{component}");
            }
        }
    }

    #[test]
    fn names_are_read_back_and_a_typo_lists_them() {
        for component in Component::ALL {
            assert_eq!(component.name().parse::<Component>().unwrap(), component);
        }
        let message = "kafak".parse::<Component>().unwrap_err().to_string();
        assert!(
            message.contains("\"kafak\"") && message.contains("kafka, registry"),
            "{message}"
        );
    }
}
