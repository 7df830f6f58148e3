//! What every contrail service shares: the position record and its wire formats, the source
//! protocol, Kafka and registry access, configuration, telemetry, the admin endpoint and shutdown.
//!
//! One module is one concern:
//!
//! - the data: [`position`], [`avro`], [`source`], [`offsets`], [`checkpoint`], [`dead_letter`], [`calendar`]
//! - the systems around: [`kafka`], [`registry`], [`clickhouse`], and [`tls`] on the way to them
//! - the life of a service: [`config`], [`cli`], [`telemetry`], [`metrics`], [`admin`], [`supervision`],
//!   [`shutdown`], [`backoff`]
//! - for tests only: [`failpoint`]

pub mod admin;
pub mod avro;
pub mod backoff;
pub mod calendar;
pub mod checkpoint;
pub mod cli;
pub mod clickhouse;
pub mod config;
pub mod dead_letter;
#[doc(hidden)]
pub mod failpoint;
pub mod kafka;
pub mod memory;
pub mod metrics;
pub mod offsets;
pub mod position;
pub mod registry;
pub mod shutdown;
pub mod source;
pub mod supervision;
pub mod telemetry;
pub mod tls;

/// The name of this host, for logs and locks.
pub fn hostname() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "unknown".to_owned())
}

/// The innermost cause: `Connection refused` says more than `error sending request`.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
