//! Commands to a stack that runs.

use std::time::{Duration, Instant};

use super::{Failure, component, console};
use crate::component::Component;
use crate::control::{self, ControlError, Request};
use crate::layout::Layout;
use crate::supervisor::machine::State;
use crate::supervisor::{Status, Verb};

/// How long a command waits for what it asked for.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub struct Target {
    /// Which component.
    #[arg(value_parser = component)]
    name: Component,
    /// Do not wait until it is done.
    #[arg(long)]
    no_wait: bool,
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
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

pub fn ask(layout: &Layout, verb: Verb, target: &Target) -> Result<(), Failure> {
    let name = target.name.name();
    let of = |statuses: Vec<Status>| {
        statuses
            .into_iter()
            .find(|status| status.name == name)
            .ok_or_else(|| ControlError::Refused(format!("{name} is not part of this stack")))
    };
    let before = of(control::send(layout, &Request::Status)?)?;
    if before.state == State::External {
        return Err(format!("{name} is external: contrail does not start or stop it").into());
    }
    control::send(
        layout,
        &Request::Ask {
            verb,
            name: name.to_owned(),
        },
    )?;
    if target.no_wait {
        return Ok(());
    }
    let begun = Instant::now();
    loop {
        let now = of(control::send(layout, &Request::Status)?)?;
        if is_done(verb, &before, &now) {
            println!("{name} is {}", describe(verb, &now));
            return Ok(());
        }
        if begun.elapsed() > LIMIT {
            return Err(format!(
                "{name} is {} after {} s{}: see `contrail logs {name}`",
                now.state.name(),
                LIMIT.as_secs(),
                match now.detail.as_str() {
                    "" => String::new(),
                    detail => format!(" ({detail})"),
                }
            )
            .into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_done(verb: Verb, before: &Status, now: &Status) -> bool {
    match verb {
        Verb::Start => now.state == State::Ready,
        Verb::Stop => now.state == State::Stopped,
        Verb::Restart => now.state == State::Ready && now.pid != before.pid,
        Verb::Kill => before.pid.is_none() || now.pid != before.pid,
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
