//! flight-ingester between a real Kafka, a real registry and the real engine: what is in the topic is
//! in the table, each event once, or among the dead letters, whole. The cases run side by side.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod bad_records;
mod plain;
mod recovery;
mod repeated;
mod waiting;
