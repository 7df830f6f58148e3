//! Parts of the platform as processes of their own, for groups that measure whole processes.

use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use contrail::stack::Builder;
use contrail::{Component, Stack};

/// The system's clock in milliseconds UTC.
pub fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What flight-mock simulates.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// Aircraft.
    pub fleet: u32,
    /// Milliseconds between two events of an aircraft.
    pub period_ms: u32,
    /// How long ago its log began.
    pub age: Duration,
}

impl World {
    /// Events that have happened by now.
    pub fn events(&self) -> u64 {
        let ticks = self.age.as_millis() as u64 / u64::from(self.period_ms);
        ticks * u64::from(self.fleet)
    }

    /// A stack, on free ports and in a directory of its own, whose mock simulates this.
    pub fn stack(&self) -> Builder {
        let epoch_ms = now_ms() - self.age.as_millis() as i64;
        Stack::builder()
            .free_ports()
            .temporary_state()
            .env(Component::Mock, "FLIGHT_MOCK_FLEET", self.fleet.to_string())
            .env(
                Component::Mock,
                "FLIGHT_MOCK_PERIOD_MS",
                self.period_ms.to_string(),
            )
            .env(Component::Mock, "FLIGHT_MOCK_EPOCH", epoch_ms.to_string())
            // Where there is a backlog, it is what is measured.
            .env(
                Component::Producer,
                "FLIGHT_PRODUCER_CATCH_UP__AFTER_EVENTS",
                "0",
            )
    }
}

/// The process id of a component that must be running.
///
/// # Errors
/// It is not.
pub fn pid(stack: &Stack, component: Component) -> Result<u32> {
    stack
        .pid(component)
        .with_context(|| format!("{component} is not running"))
}

/// What a service with this port tells of itself, as Prometheus has it.
///
/// # Errors
/// It does not answer.
pub fn metrics(service: impl Display, port: u16) -> Result<String> {
    contrail::http::get(port, "/metrics", Duration::from_secs(10))
        .map(|answer| answer.body)
        .with_context(|| format!("{service} does not tell its metrics"))
}

/// One of a service's metrics, by its name.
///
/// # Errors
/// It does not answer, or has none of that name.
pub fn metric(service: impl Display, port: u16, name: &str) -> Result<f64> {
    metrics(&service, port)?
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        .with_context(|| format!("{service} has no metric {name}"))
}
