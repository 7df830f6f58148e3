//! The services of this workspace. They run on their defaults; they are only told where the
//! others are, because ports may be shifted.

use super::Context;
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

pub fn producer(context: &Context) -> Launch {
    const PREFIX: &str = "FLIGHT_PRODUCER_";
    let program = context
        .program(Component::Producer, "flight-producer", PREFIX)
        .env(format!("{PREFIX}SOURCE__URL"), context.url(Component::Mock));
    alone(cluster(context, PREFIX, program))
}

pub fn ingester(context: &Context) -> Launch {
    const PREFIX: &str = "FLIGHT_INGESTER_";
    let clickhouse = &context.settings.clickhouse;
    let program = context
        .program(Component::Ingester, "flight-ingester", PREFIX)
        // Under a name of its own it has its partitions back as soon as it is started again.
        .env(format!("{PREFIX}GROUP__INSTANCE_ID"), "ingester-1")
        .env(
            format!("{PREFIX}CLICKHOUSE__URL"),
            context.url(Component::Clickhouse),
        )
        .env(format!("{PREFIX}CLICKHOUSE__USER"), &clickhouse.user)
        .env(
            format!("{PREFIX}CLICKHOUSE__PASSWORD"),
            &clickhouse.password,
        );
    alone(cluster(context, PREFIX, program))
}

/// Where Kafka and the registry are.
fn cluster(context: &Context, prefix: &str, program: Program) -> Program {
    program
        .env(format!("{prefix}KAFKA__BROKERS"), context.brokers())
        .env(format!("{prefix}REGISTRY__URL"), context.registry_url())
}

fn alone(program: Program) -> Launch {
    Launch {
        before: None,
        program,
    }
}
