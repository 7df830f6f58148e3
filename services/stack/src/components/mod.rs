//! How each component of the stack is run: its command line, its files, its health.

pub mod airflow;
mod clickhouse;
mod kafka;
mod mail;
pub mod observability;
mod pipeline;
mod postgresql;
mod registry;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flight::clickhouse::ClickhouseSettings;
use flight::config::Secret;
use flight::kafka::KafkaSettings;
use flight::registry::RegistrySettings;

use crate::component::Component;
use crate::http;
use crate::layout::Layout;
use crate::parts::Parts;
use crate::ports;
use crate::settings::Settings;
use crate::supervisor::process::{Launch, Program};
use crate::supervisor::{Probe, Service};

pub use registry::BASE_PATH as REGISTRY_BASE_PATH;

/// Longest wait for a probe's answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// What the components need to know of the stack that they are part of.
#[derive(Debug, Clone)]
pub struct Context {
    /// The settings.
    pub settings: Settings,
    /// The directories.
    pub layout: Layout,
    /// The parts.
    pub parts: Parts,
    /// The Java program; needed by Kafka and the registry.
    pub java: PathBuf,
}

impl Context {
    /// Enough to ask a stack. Nothing can be started with it: where Java is, is not known.
    pub fn to_ask(layout: Layout, settings: Settings) -> Self {
        Self {
            parts: Parts::new(&layout.parts),
            java: PathBuf::new(),
            settings,
            layout,
        }
    }

    /// Has a program, or what it starts, find this stack when it calls `contrail`.
    pub fn with_stack(&self, program: Program) -> Program {
        let Layout {
            state,
            parts,
            binaries,
            share,
            ..
        } = &self.layout;
        let path = |path: &Path| path.display().to_string();
        program
            .env("CONTRAIL_STATE", path(state))
            .env("CONTRAIL_PARTS", path(parts))
            .env("CONTRAIL_BINARIES", path(binaries))
            .env("CONTRAIL_SHARE", path(share))
            .env(
                "CONTRAIL_PORT_OFFSET",
                self.settings.port_offset.to_string(),
            )
    }

    /// A component's port, with the offset.
    pub fn port(&self, component: Component) -> u16 {
        ports::port(component, self.settings.port_offset)
    }

    /// How Kafka is reached.
    pub fn kafka(&self) -> KafkaSettings {
        let local = || KafkaSettings {
            brokers: self.address(Component::Kafka),
            ..KafkaSettings::default()
        };
        self.settings.kafka.external.clone().unwrap_or_else(local)
    }

    /// How the registry is reached.
    pub fn registry(&self) -> RegistrySettings {
        let local = || RegistrySettings {
            url: format!(
                "http://{}{REGISTRY_BASE_PATH}",
                self.address(Component::Registry)
            ),
            ..RegistrySettings::default()
        };
        self.settings
            .registry
            .external
            .clone()
            .unwrap_or_else(local)
    }

    /// How ClickHouse is reached.
    pub fn clickhouse(&self) -> ClickhouseSettings {
        let settings = &self.settings.clickhouse;
        let local = || ClickhouseSettings {
            url: format!("http://{}", self.address(Component::Clickhouse)),
            user: settings.user.clone(),
            password: Secret::new(settings.password.clone()),
            ..ClickhouseSettings::default()
        };
        settings.external.clone().unwrap_or_else(local)
    }

    /// The address that Kafka's clients begin with.
    pub fn brokers(&self) -> String {
        self.kafka().brokers
    }

    /// Base URL of the registry's Confluent API.
    pub fn registry_url(&self) -> String {
        self.registry().url
    }

    /// Base URL of a component that speaks HTTP.
    pub fn url(&self, component: Component) -> String {
        match component {
            Component::Clickhouse => self.clickhouse().url,
            _ => format!("http://{}", self.address(component)),
        }
    }

    /// Where a component is found, for messages.
    pub fn location(&self, component: Component) -> String {
        match component {
            Component::Kafka => self.brokers(),
            Component::Registry => self.registry_url(),
            _ => self.url(component),
        }
    }

    fn address(&self, component: Component) -> String {
        format!("127.0.0.1:{}", self.port(component))
    }

    /// A program of this workspace.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.layout.binaries.join(name)
    }

    /// A component's own program, which listens where it is told by `PREFIX_LISTEN`.
    fn program(&self, component: Component, name: &str, prefix: &str) -> Program {
        let mut program = Program::new(self.binary(name))
            .arg("run")
            .env(format!("{prefix}LISTEN"), self.address(component));
        let telemetry = &self.settings.telemetry;
        if let Some(endpoint) = &telemetry.otlp_endpoint {
            program = program.env(format!("{prefix}TELEMETRY__OTLP_ENDPOINT"), endpoint);
        }
        if let Some(ratio) = telemetry.sample_ratio {
            program = program.env(
                format!("{prefix}TELEMETRY__SAMPLE_RATIO"),
                ratio.to_string(),
            );
        }
        program
    }

    /// Adds what the settings say last, so that they win.
    fn with_env(&self, component: Component, mut program: Program) -> Program {
        for (name, value) in self.settings.env(component) {
            program = program.env(name.to_uppercase(), value);
        }
        program
    }
}

/// How a component is run, as part of a stack of `selected` ones.
pub fn service(component: Component, context: &Context, selected: &[Component]) -> Service {
    let launch_context = context.clone();
    Service {
        name: component.name().to_owned(),
        port: Some(context.port(component)),
        // Those that are not part of this stack run elsewhere or not at all: nobody to wait for.
        dependencies: component
            .dependencies()
            .iter()
            .filter(|dependency| selected.contains(dependency) || dependency.is_later())
            .map(|dependency| dependency.name().to_owned())
            .collect(),
        dormant: !selected.contains(&component),
        launch: Box::new(move || launch(component, &launch_context)),
        probe: probe(component, context),
        log: context.layout.log(component),
        grace: grace(component),
    }
}

/// What everything is stopped in takes the longest of each layer: together below 15 s.
fn grace(component: Component) -> Duration {
    Duration::from_secs(match component {
        // A checkpoint of its memory, and the tasks of a scheduler.
        Component::Producer
        | Component::Ingester
        | Component::AirflowScheduler
        | Component::Postgresql => 7,
        _ => 5,
    })
}

fn launch(component: Component, context: &Context) -> Result<Launch, String> {
    let mut launch = match component {
        Component::Kafka => kafka::launch(context),
        Component::Registry => registry::launch(context),
        Component::Clickhouse => clickhouse::launch(context),
        Component::Mock => Ok(pipeline::mock(context)),
        Component::Producer => pipeline::producer(context),
        Component::Ingester => pipeline::ingester(context),
        Component::Postgresql => postgresql::launch(context),
        Component::Mail => mail::launch(context),
        Component::AirflowApi => airflow::api(context),
        Component::AirflowScheduler => airflow::scheduler(context),
        Component::AirflowDags => airflow::dag_processor(context),
        Component::Exporter => Ok(observability::exporter(context)),
        Component::NodeExporter => observability::node_exporter(context),
        Component::Alertmanager => observability::alertmanager(context),
        Component::Prometheus => observability::prometheus(context),
    }?;
    launch.program = context.with_env(component, launch.program);
    Ok(launch)
}

fn probe(component: Component, context: &Context) -> Probe {
    let port = context.port(component);
    match component {
        Component::Kafka => Arc::new(move || {
            crate::kafka_probe::probe(port, PROBE_TIMEOUT).map_err(|error| error.to_string())
        }),
        Component::Registry => Arc::new(move || registry::probe(port, PROBE_TIMEOUT)),
        Component::Clickhouse => Arc::new(move || answers(port, "/ping")),
        Component::Mock | Component::Producer | Component::Ingester => {
            Arc::new(move || answers(port, "/readyz"))
        }
        Component::Postgresql => {
            let context = context.clone();
            Arc::new(move || postgresql::probe(&context))
        }
        // The exporter goes on while what it looks at is away.
        Component::Mail | Component::Exporter => Arc::new(move || answers(port, "/healthz")),
        Component::NodeExporter => Arc::new(move || answers(port, "/")),
        Component::Alertmanager | Component::Prometheus => {
            Arc::new(move || answers(port, "/-/ready"))
        }
        Component::AirflowApi | Component::AirflowScheduler | Component::AirflowDags => {
            let port = context.port(Component::AirflowApi);
            Arc::new(move || airflow::probe(component, port, PROBE_TIMEOUT * 2))
        }
    }
}

fn answers(port: u16, path: &str) -> Result<(), String> {
    http::get(port, path, PROBE_TIMEOUT)
        .map_err(|error| error.to_string())?
        .success()
        .map(drop)
}

/// Writes a configuration file, with its directory.
fn write(path: &std::path::Path, text: &str) -> Result<(), String> {
    path.parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}
