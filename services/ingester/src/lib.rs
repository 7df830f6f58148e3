//! flight-ingester: from `flight.positions` into ClickHouse, each event exactly once.
//!
//! The way of a record: [`consumer`] hands each assigned partition to a thread of its own,
//! [`partition`]; that decodes ([`decode`]) and collects ([`batch`]), and publishes a batch by the
//! protocol in `partition::publish`: the range first into the group's committed offset ([`range`]),
//! then the rows into ClickHouse ([`store`]) under a token made of that range. What cannot be decoded
//! or cannot be true goes to the dead letters ([`dead_letters`]).

pub mod allocator;
pub mod batch;
pub mod consumer;
pub mod dead_letters;
pub mod decode;
pub mod error;
pub mod latency;
pub mod metrics;
pub mod migrate;
pub mod partition;
pub mod pulse;
pub mod range;
pub mod service;
pub mod settings;
pub mod store;
