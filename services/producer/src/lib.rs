//! flight-producer: reads a source's events by their offsets and writes them to Kafka, each exactly
//! once whatever is killed on the way.
//!
//! Events and the checkpoint behind them go in one Kafka transaction. A session begins by shutting
//! out every older producer of the source, then reads the checkpoint, claims the source and streams.
//! Whatever fails ends the session; the next one begins from the checkpoint. What is not a position
//! goes to the dead letters in the same transaction.

mod catch_up;
mod checkpoints;
mod encode;
mod error;
mod event;
mod kafka_client;
mod mend;
mod metrics;
mod record;
pub mod replay;
mod service;
mod session;
mod settings;
mod settle;
mod source;
mod transaction;

pub use error::{EXIT_FENCED, EXIT_NO_CHECKPOINT, Fatal};
pub use mend::{KeyAndValue, MendError, Mender};
pub use metrics::{Metrics, ReplayMetrics};
pub use service::{require, run, run_local};
pub use session::OBSERVED_MS;
pub use settings::{
    CatchUpSettings, CommitSettings, ENV_PREFIX, MemorySettings, ReplaySettings, Settings,
    SourceSettings, Topics, Transport,
};
pub use source::{LocalSource, SourceError};
