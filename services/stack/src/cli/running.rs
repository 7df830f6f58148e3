//! Commands to a stack that runs.

use std::time::{Duration, Instant};

use super::{Failure, component, console};
use crate::component::Component;
use crate::components::{self, Context};
use crate::control::{self, ControlError, Request};
use crate::layout::Layout;
use crate::ports;
use crate::settings::Settings;
use crate::supervisor::machine::State;
use crate::supervisor::{Status, Verb};

/// How long a command waits for what it asked for.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at the state of the stack.
const POLL: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub struct Target {
    /// Which component; `airflow` is Airflow with PostgreSQL and the mail catcher,
    /// `observability` is Prometheus and Alertmanager with what they need.
    #[arg(value_parser = named)]
    name: Named,
    /// Do not wait until it is done.
    #[arg(long)]
    no_wait: bool,
}

/// What a command is about.
#[derive(Debug, Clone, Copy)]
enum Named {
    One(Component),
    Airflow,
    Observability,
}

fn named(name: &str) -> Result<Named, String> {
    match name {
        "airflow" => Ok(Named::Airflow),
        "observability" => Ok(Named::Observability),
        _ => component(name).map(Named::One),
    }
}

pub fn status(layout: &Layout, json: bool) -> Result<(), Failure> {
    let statuses = control::send(layout, &Request::Status)?;
    match json {
        true => println!("{}", serde_json::to_string_pretty(&statuses)?),
        false => print!("{}", console::table(&statuses, false)),
    }
    Ok(())
}

pub fn down(layout: &Layout) -> Result<(), Failure> {
    control::send(layout, &Request::Down)?;
    let begun = Instant::now();
    while crate::stack::is_locked(layout) {
        if begun.elapsed() > LIMIT {
            return Err(format!("contrail on {} does not end", layout.state.display()).into());
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

pub fn ask(layout: Layout, settings: Settings, verb: Verb, target: &Target) -> Result<(), Failure> {
    let mut components = match target.name {
        Named::One(component) => vec![component],
        Named::Airflow => Component::AIRFLOW.to_vec(),
        Named::Observability => Component::OBSERVABILITY.to_vec(),
    };
    if matches!(verb, Verb::Stop) {
        components.reverse();
    }
    let running = control::send(&layout, &Request::Status)?;
    let offset = settings.port_offset;
    let context = Context::to_ask(layout, settings);
    for component in components {
        let runs = running
            .iter()
            .any(|status| status.name == component.name() && status.state != State::Stopped);
        if component.is_later() && matches!(verb, Verb::Start) && !runs {
            // Before the supervisor tries it over and over.
            let is_of_airflow = match target.name {
                // The mail catcher is of both.
                Named::Observability => false,
                Named::Airflow | Named::One(_) => Component::AIRFLOW.contains(&component),
            };
            match is_of_airflow {
                true => components::airflow::check(&context)?,
                false => components::observability::check(&context)?,
            }
            ports::check(&[component], offset, Duration::ZERO)?;
        }
        one(&context.layout, verb, component, target.no_wait)?;
    }
    if matches!((target.name, verb), (Named::Observability, Verb::Start)) {
        println!(
            "Prometheus: http://127.0.0.1:{}; Alertmanager: http://127.0.0.1:{}; mails: http://127.0.0.1:{}",
            context.port(Component::Prometheus),
            context.port(Component::Alertmanager),
            context.port(Component::Mail)
        );
    }
    if matches!((target.name, verb), (Named::Airflow, Verb::Start)) {
        println!(
            "Airflow: http://127.0.0.1:{} (admin, admin); mails: http://127.0.0.1:{}",
            context.port(Component::AirflowApi),
            context.port(Component::Mail)
        );
    }
    Ok(())
}

fn one(layout: &Layout, verb: Verb, component: Component, no_wait: bool) -> Result<(), Failure> {
    let name = component.name();
    let of = |statuses: Vec<Status>| {
        statuses
            .into_iter()
            .find(|status| status.name == name)
            .ok_or_else(|| ControlError::Refused(format!("{name} is not part of this stack")))
    };
    let before = match of(control::send(layout, &Request::Status)?) {
        // Until it was asked for, one that joins later is not shown.
        Err(_) if component.is_later() => {
            if matches!(verb, Verb::Stop) {
                return Ok(());
            }
            None
        }
        found => Some(found?),
    };
    if before
        .as_ref()
        .is_some_and(|status| status.state == State::External)
    {
        return Err(format!("{name} is external: contrail does not start or stop it").into());
    }
    control::send(
        layout,
        &Request::Ask {
            verb,
            name: name.to_owned(),
        },
    )?;
    if no_wait {
        return Ok(());
    }
    // Airflow's first start makes its tables.
    let limit = match Component::AIRFLOW.contains(&component) {
        true => LIMIT * 3,
        false => LIMIT,
    };
    let begun = Instant::now();
    loop {
        let now = match of(control::send(layout, &Request::Status)?) {
            // The supervisor was told, and shows it from its next round on.
            Err(_) if before.is_none() && begun.elapsed() < limit => {
                std::thread::sleep(POLL);
                continue;
            }
            found => found?,
        };
        if is_done(verb, before.as_ref(), &now) {
            println!("{name} is {}", describe(verb, &now));
            return Ok(());
        }
        if begun.elapsed() > limit {
            return Err(format!(
                "{name} is {} after {} s{}: see `contrail logs {name}`",
                now.state.name(),
                limit.as_secs(),
                match now.detail.as_str() {
                    "" => String::new(),
                    detail => format!(" ({detail})"),
                }
            )
            .into());
        }
        std::thread::sleep(POLL);
    }
}

fn is_done(verb: Verb, before: Option<&Status>, now: &Status) -> bool {
    let pid = before.and_then(|status| status.pid);
    match verb {
        Verb::Start => now.state == State::Ready,
        Verb::Stop => now.state == State::Stopped,
        Verb::Restart => now.state == State::Ready && now.pid != pid,
        Verb::Kill => pid.is_none() || now.pid != pid,
        Verb::Pause | Verb::Resume => true,
    }
}

fn describe(verb: Verb, now: &Status) -> String {
    match (verb, now.pid) {
        (Verb::Kill, _) => "killed".into(),
        (_, Some(pid)) => format!("{} (process {pid})", now.state.name()),
        (_, None) => now.state.name().into(),
    }
}
