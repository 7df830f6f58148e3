//! The services of this workspace. They run on their defaults; they are only told where the
//! others are, because ports may be shifted, or because what they use is external.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use flight::clickhouse::ClickhouseSettings;
use flight::config::Secret;
use flight::kafka::KafkaSettings;
use flight::registry::RegistrySettings;
use serde::Serialize;

use super::{Context, write};
use crate::component::Component;
use crate::supervisor::process::{Launch, Program};

pub fn mock(context: &Context) -> Launch {
    const PREFIX: &str = "FLIGHT_MOCK_";
    let mut program = context.program(Component::Mock, "flight-mock", PREFIX);
    let settings = &context.settings.mock;
    for (name, value) in [("FLEET", settings.fleet), ("PERIOD_MS", settings.period_ms)] {
        if let Some(value) = value {
            program = program.env(format!("{PREFIX}{name}"), value.to_string());
        }
    }
    alone(program)
}

pub fn producer(context: &Context) -> Result<Launch, String> {
    const PREFIX: &str = "FLIGHT_PRODUCER_";
    let program = context
        .program(Component::Producer, "flight-producer", PREFIX)
        .env(format!("{PREFIX}SOURCE__URL"), context.url(Component::Mock));
    let program = with_replay_token(context, PREFIX, program)?;
    let external = External {
        clickhouse: None,
        ..External::of(context)
    };
    let program = external.tell(context, Component::Producer, program)?;
    Ok(alone(cluster(context, PREFIX, program)))
}

/// Lets who can read the stack's state ask for replays by HTTP, unless the settings say who may.
fn with_replay_token(context: &Context, prefix: &str, program: Program) -> Result<Program, String> {
    let ours = format!("{prefix}REPLAY__TOKEN");
    let given = context.settings.env(Component::Producer).keys();
    if given
        .into_iter()
        .any(|name| name.to_uppercase().starts_with(&ours))
    {
        return Ok(program);
    }
    let path = context.layout.replay_token();
    if !path.is_file() {
        write(&path, "")?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))
            .map_err(|error| format!("cannot protect {}: {error}", path.display()))?;
    }
    // A start that was cut off may have left it empty.
    let is_empty = std::fs::metadata(&path).is_ok_and(|file| file.len() == 0);
    if is_empty {
        write(&path, &format!("{}\n", uuid::Uuid::new_v4()))?;
    }
    Ok(program.env(format!("{ours}_FILE"), path.display().to_string()))
}

pub fn ingester(context: &Context) -> Result<Launch, String> {
    const PREFIX: &str = "FLIGHT_INGESTER_";
    let mut program = context
        .program(Component::Ingester, "flight-ingester", PREFIX)
        // Under a name of its own it has its partitions back as soon as it is started again.
        .env(format!("{PREFIX}GROUP__INSTANCE_ID"), "ingester-1");
    if !context.settings.is_external(Component::Clickhouse) {
        let clickhouse = context.clickhouse();
        program = program
            .env(format!("{PREFIX}CLICKHOUSE__URL"), clickhouse.url)
            .env(format!("{PREFIX}CLICKHOUSE__USER"), clickhouse.user)
            .env(
                format!("{PREFIX}CLICKHOUSE__PASSWORD"),
                clickhouse.password.expose(),
            );
    }
    let program = External::of(context).tell(context, Component::Ingester, program)?;
    Ok(alone(cluster(context, PREFIX, program)))
}

/// Where Kafka and the registry are.
fn cluster(context: &Context, prefix: &str, mut program: Program) -> Program {
    if !context.settings.is_external(Component::Kafka) {
        program = program.env(format!("{prefix}KAFKA__BROKERS"), context.brokers());
    }
    if !context.settings.is_external(Component::Registry) {
        program = program.env(format!("{prefix}REGISTRY__URL"), context.registry_url());
    }
    program
}

/// The part of a service's settings that is about external servers. It goes by a file, which has room
/// for all of it, and which others cannot read.
#[derive(Serialize)]
struct External {
    #[serde(skip_serializing_if = "Option::is_none")]
    kafka: Option<KafkaSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registry: Option<RegistrySettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clickhouse: Option<ClickhouseSettings>,
}

impl External {
    fn of(context: &Context) -> Self {
        let settings = &context.settings;
        let mut external = Self {
            kafka: settings.kafka.external.clone(),
            registry: settings.registry.external.clone(),
            clickhouse: settings.clickhouse.external.clone(),
        };
        // Who is told of a file reads it.
        let forget = |secret: &mut Secret, has_file: bool| {
            if has_file {
                *secret = Secret::default();
            }
        };
        if let Some(kafka) = &mut external.kafka {
            forget(&mut kafka.sasl.password, kafka.sasl.password_file.is_some());
        }
        if let Some(registry) = &mut external.registry {
            forget(&mut registry.password, registry.password_file.is_some());
            forget(&mut registry.token, registry.token_file.is_some());
        }
        if let Some(clickhouse) = &mut external.clickhouse {
            forget(&mut clickhouse.password, clickhouse.password_file.is_some());
        }
        external
    }

    fn tell(
        &self,
        context: &Context,
        component: Component,
        program: Program,
    ) -> Result<Program, String> {
        if self.kafka.is_none() && self.registry.is_none() && self.clickhouse.is_none() {
            return Ok(program);
        }
        let path = context.layout.data(component).join("external.toml");
        let text = toml::to_string(self).map_err(|error| error.to_string())?;
        // Empty first, so that nobody can open what holds a password.
        write(&path, "")?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))
            .map_err(|error| format!("cannot protect {}: {error}", path.display()))?;
        let header = "# Written by contrail at each start: change contrail.toml instead.\n";
        write(&path, &format!("{header}{text}"))?;
        Ok(program.arg("--config").arg(path.display().to_string()))
    }
}

fn alone(program: Program) -> Launch {
    Launch {
        before: None,
        program,
    }
}
