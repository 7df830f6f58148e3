//! contrail's local stack: fetches what it runs, starts it in order of health, watches it,
//! restarts what dies, and leaves nothing behind.
//!
//! [`Stack`] is the way in for `contrail up` and for tests of other crates; [`supervisor`] knows
//! processes, [`component`] and [`components`] know what the processes of this stack are.

pub mod cli;
pub mod clock;
pub mod component;
pub mod components;
pub mod control;
pub mod dead_letters;
pub mod exporter;
pub mod external;
pub mod gaps;
pub mod http;
pub mod kafka_probe;
pub mod layout;
pub mod parts;
pub mod ports;
pub mod proxy;
pub mod questions;
pub mod settings;
pub mod stack;
pub mod supervisor;
pub mod tools;
pub mod verify;
pub mod warehouse;

pub use component::Component;
pub use settings::Settings;
pub use stack::{Stack, StackError};
pub use supervisor::machine::State;
pub use supervisor::{Status, Verb};
