//! (g) Resident memory of every process: idle, and with all the work that two cores can do.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use contrail::{Component, Stack};

use super::Group;
use crate::Plan;
use crate::cpu::resident_mb;
use crate::report::{Line, Role, Target, Unit};
use crate::world::{World, pid};

/// The group.
pub const GROUP: Group = Group {
    letter: 'g',
    title: "resident memory",
    run,
};

/// The default of `make start`: 500 events a second.
const IDLE: World = World {
    fleet: 500,
    period_ms: 1000,
    age: Duration::from_secs(10),
};
/// A million events a second: more than two cores can take to ClickHouse.
const LOAD: World = World {
    fleet: 20_000,
    period_ms: 20,
    age: Duration::from_secs(60),
};
/// How long a round lasts.
const SPAN: Duration = Duration::from_secs(10);
/// Longest wait for the first row.
const LIMIT: Duration = Duration::from_secs(60);
/// Most that a process of ours may have, but the engine.
const MOST_MB: f64 = 250.0;

fn run(plan: &Plan) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (name, path, world) in [
        (
            "idle",
            "the whole stack at 500 events/s: resident at the end of a round of 10 s",
            IDLE,
        ),
        (
            "under load",
            "the whole stack behind a source of 1,000,000 events/s of 20,000 aircraft: the most that was resident in a round of 10 s",
            LOAD,
        ),
    ] {
        let is_load = world.period_ms == LOAD.period_ms;
        eprintln!("  {name}");
        let stack = world
            .stack()
            .env(
                Component::Producer,
                "FLIGHT_PRODUCER_SOURCE__INITIAL_OFFSET",
                "0",
            )
            .start()?;
        let mut samples = vec![Vec::new(); stack.components().len()];
        flow(&stack)?;
        for _ in 0..plan.rounds {
            for component in stack.components() {
                forget_peak(pid(&stack, *component)?)?;
            }
            std::thread::sleep(SPAN);
            for (component, samples) in stack.components().iter().zip(&mut samples) {
                let (now, most) = resident_mb(pid(&stack, *component)?)?;
                samples.push(if is_load { most } else { now });
            }
        }
        for (component, samples) in stack.components().iter().zip(samples) {
            let (role, target) = match component {
                Component::Kafka | Component::Registry => (Role::Part, None),
                Component::Clickhouse => (Role::Ours, None),
                _ => (Role::Ours, Some(Target::AtMost(MOST_MB))),
            };
            let subject = format!("{component}, {name}");
            let mut line = Line::new('g', role, subject, path, Unit::Megabytes, samples);
            line.target = target;
            lines.push(line);
        }
        stack.shut_down();
    }
    Ok(lines)
}

/// Waits until rows arrive in ClickHouse.
fn flow(stack: &Stack) -> Result<()> {
    let began = Instant::now();
    while !stack.warehouse().positions().is_ok_and(|rows| rows > 0) {
        ensure!(began.elapsed() < LIMIT, "no rows arrive in ClickHouse");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Begins the most that a process ever had anew (proc(5), `clear_refs`).
fn forget_peak(pid: u32) -> Result<()> {
    let path = format!("/proc/{pid}/clear_refs");
    fs::write(&path, "5").with_context(|| path)
}
