//! (b) The way from the source to Kafka in whole processes: simulator, producer, broker.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use contrail::{Component, Stack};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Group;
use crate::Plan;
use crate::cpu::Meter;
use crate::report::{Line, Role, Target, Unit};
use crate::rounds::{Run, Subject, interleaved};
use crate::world::{self, World, pid};

/// The group.
pub const GROUP: Group = Group {
    letter: 'b',
    title: "from the source to Kafka",
    run,
};

/// How long it is measured.
const SPAN: Duration = Duration::from_secs(8);
/// How long it runs before.
const WARM_UP: Duration = Duration::from_secs(3);
/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(60);

/// Half a million events a second come to be, and there is more waiting than a run can take: the
/// producer never comes to the live edge, and what it reads is so recent that records need no header
/// with the time.
const WORLD: World = World {
    fleet: 500,
    period_ms: 1,
    age: Duration::from_secs(100),
};

fn run(plan: &Plan) -> Result<Vec<Line>> {
    let stack = WORLD
        .stack()
        .only([Component::Kafka, Component::Registry, Component::Mock])
        .start()?;
    let line = |subject: &str, path: &str, least| {
        Line::new('b', Role::Ours, subject, path, Unit::PerSecond, Vec::new())
            .with_target(Target::AtLeast(least))
    };
    interleaved(
        plan.rounds,
        vec![
            Subject::new(
                line(
                    "by WebSocket",
                    "flight-mock (500 aircraft), flight-producer and Kafka as processes of their own; committed events",
                    250_000.0,
                ),
                || measure(&stack, "websocket"),
            ),
            Subject::new(
                line("by SSE", "the same by Server-Sent Events", 100_000.0),
                || measure(&stack, "sse"),
            ),
        ],
    )
}

/// The rate between two commits, once it runs.
fn measure(stack: &Stack, transport: &str) -> Result<Run> {
    let producer = Producer::start(stack, transport)?;
    producer.wait_for(1)?;
    std::thread::sleep(WARM_UP);
    let processes = [
        (Component::Mock, pid(stack, Component::Mock)?),
        (Component::Producer, producer.child.id()),
        (Component::Kafka, pid(stack, Component::Kafka)?),
    ];
    let first = producer.wait_for(producer.committed()? + 1)?;
    let (meter, began) = (
        Meter::start(
            processes
                .iter()
                .map(|(component, pid)| (component.name(), *pid)),
        )?,
        Instant::now(),
    );
    std::thread::sleep(SPAN);
    let last = producer.wait_for(producer.committed()? + 1)?;
    let run = Run {
        events: last - first,
        elapsed: began.elapsed(),
        cpu: meter.stop()?,
    };
    ensure!(
        producer.metric("flight_producer_source_lag_events")? > 0.0,
        "the producer came to the live edge: what was measured is the simulator's clock"
    );
    producer.stop()?;
    Ok(run)
}

/// flight-producer as a process, which goes on where the one before it ended.
struct Producer {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Producer {
    fn start(stack: &Stack, transport: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = File::create(folder.path().join("log"))?;
        let port = stack.port(Component::Producer);
        let child = Command::new(stack.context().binary("flight-producer"))
            .env("FLIGHT_PRODUCER_LISTEN", format!("127.0.0.1:{port}"))
            .env("FLIGHT_PRODUCER_SOURCE__URL", stack.url(Component::Mock))
            .env("FLIGHT_PRODUCER_SOURCE__TRANSPORT", transport)
            .env("FLIGHT_PRODUCER_SOURCE__INITIAL_OFFSET", "0")
            // In their order: what it is behind by would else be left for later.
            .env("FLIGHT_PRODUCER_CATCH_UP__AFTER_EVENTS", "0")
            .env("FLIGHT_PRODUCER_KAFKA__BROKERS", stack.brokers())
            .env("FLIGHT_PRODUCER_REGISTRY__URL", stack.registry_url())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("flight-producer")?;
        Ok(Self {
            child,
            port,
            folder,
        })
    }

    fn metric(&self, name: &str) -> Result<f64> {
        world::metric("flight-producer", self.port, name)
    }

    fn committed(&self) -> Result<u64> {
        Ok(self.metric("flight_producer_events_committed_total")? as u64)
    }

    /// Waits until so many events are committed; gives how many they are.
    fn wait_for(&self, events: u64) -> Result<u64> {
        let began = Instant::now();
        loop {
            match self.committed() {
                Ok(committed) if committed >= events => return Ok(committed),
                // Before it listens.
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
            ensure!(
                began.elapsed() < LIMIT,
                "flight-producer does not commit:\n{}",
                std::fs::read_to_string(self.folder.path().join("log"))?
            );
        }
    }

    fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
