//! flight-mock: a simulator of air traffic that is a log.
//!
//! [`simulator`] computes event N from the settings and N alone. [`server`] serves it: random access,
//! Server-Sent Events and a WebSocket with credit and acknowledgements, by the protocol of
//! [`flight::source`].

pub mod server;
pub mod settings;
pub mod simulator;

pub use settings::Settings;
pub use simulator::{Event, Parameters, Simulator, SimulatorError};
