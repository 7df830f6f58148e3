//! The ClickHouse HTTP interface over libchdb, as a process of its own: for machines without a
//! ClickHouse server, so that the services use the same client code against either.
//!
//! - [`engine`]: libchdb behind a safe surface: connections, queries, streamed inserts and results
//! - [`sql`]: as much of the language as it takes to tell a statement from the data that follows it
//! - [`execute`]: one request on the engine, on a blocking thread
//! - [`http`]: the interface: requests, users, compression, errors
//! - [`queries`]: what runs, by id; [`sessions`]; [`query_log`]: what ran
//! - [`settings`], [`accounts`], [`limits`], [`exception`], [`metrics`]

pub mod accounts;
pub mod engine;
pub mod exception;
pub mod execute;
pub mod http;
pub mod limits;
pub mod metrics;
pub mod queries;
pub mod query_log;
pub mod sessions;
pub mod settings;
pub mod sql;
