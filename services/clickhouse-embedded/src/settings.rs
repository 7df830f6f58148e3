//! What can be set, by TOML file or environment (`CLICKHOUSE_EMBEDDED_LISTEN=…`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use flight::config::{Secret, Validate};
use flight::telemetry::TelemetrySettings;
use serde::{Deserialize, Serialize};

use crate::limits::Limits;

/// Prefix of environment variables; `CLICKHOUSE_EMBEDDED_LIBRARY` is the setting `library`.
pub const ENV_PREFIX: &str = "CLICKHOUSE_EMBEDDED_";

const MIB: u64 = 1024 * 1024;

/// Settings of the whole process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Address of the HTTP interface.
    pub listen: String,
    /// Where the data lives. One process a path: a second one is refused.
    pub data_path: PathBuf,
    /// libchdb.so. Without it: beside this executable, or in `../lib` from there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub library: Option<PathBuf>,
    /// Time zone of the server, which `toDate` of a DateTime and `now()` go by.
    pub timezone: String,
    /// Memory that the engine may use for everything, in bytes.
    pub max_server_memory: u64,
    /// Memory that one query may use, in bytes; a request may set `max_memory_usage` itself.
    pub max_query_memory: u64,
    /// Bodies of requests that are held in memory until they are complete, all together, in bytes,
    /// decompressed. The largest insert is also this.
    pub max_body_memory: u64,
    /// Largest result, in bytes, of formats that cannot be sent while the query runs (JSON, Parquet,
    /// Pretty and the like; the others have no limit).
    pub max_materialized_result: u64,
    /// Queries that run at the same time; one more is refused with code 202.
    pub max_concurrent_queries: usize,
    /// Sessions that are kept at the same time, of all users; one more is refused with code 202.
    pub max_sessions: usize,
    /// Days that the query log keeps (`system.query_log`); 0: there is no log.
    pub query_log_days: u32,
    /// A client that neither sends nor takes data for so long, in seconds, loses its request.
    pub client_timeout: u64,
    /// Settings of the engine for every query, by name, such as `max_threads = "2"`. A request may
    /// set them differently.
    pub defaults: BTreeMap<String, String>,
    /// Who may ask. The user `default` is who gives no name.
    pub users: Vec<User>,
    /// Logs and traces.
    pub telemetry: TelemetrySettings,
}

/// One user. The password comes from exactly one of the three settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct User {
    /// Name.
    pub name: String,
    /// Password in the clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// File that holds the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// SHA-256 of the password, in hexadecimal, as in ClickHouse's users.xml.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_sha256_hex: Option<String>,
    /// May only ask: one SELECT, SHOW, DESCRIBE, EXPLAIN, EXISTS or CHECK a request, of this
    /// server's own tables only.
    pub readonly: bool,
    /// Queries that the user may have running at the same time; one more is refused with code 202.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent_queries: Option<usize>,
    /// What each of the user's queries may cost at most.
    #[serde(skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        let user = |name: &str, password: &str, readonly| User {
            name: name.to_owned(),
            password: Some(Secret::new(password)),
            readonly,
            ..User::default()
        };
        Self {
            listen: "127.0.0.1:8123".to_owned(),
            data_path: PathBuf::from("var/clickhouse"),
            library: None,
            timezone: "UTC".to_owned(),
            max_server_memory: 4096 * MIB,
            max_query_memory: 3072 * MIB,
            max_body_memory: 256 * MIB,
            max_materialized_result: 256 * MIB,
            max_concurrent_queries: 32,
            max_sessions: 1000,
            query_log_days: 30,
            client_timeout: 300,
            defaults: BTreeMap::from(
                [
                    // The README's H3 query gives longitude first.
                    ("geotoh3_argument_order", "lon_lat"),
                    // An insert is answered when its rows are in the table, not in a queue.
                    ("async_insert", "0"),
                    // One insert is one block up to max_body_memory: blocks are cut by rows only,
                    // and at more rows than the protocol of the ingester sends.
                    ("max_insert_block_size", "1048449"),
                    ("min_insert_block_size_rows", "1048449"),
                    ("min_insert_block_size_bytes", "0"),
                    // Most of what is asked for is in the page cache: a thread of its own for each read
                    // takes longer than the read.
                    ("local_filesystem_read_method", "pread"),
                    // Looking at the parts' statistics takes half of the time in which a question is planned.
                    ("use_statistics", "0"),
                    // Most answers are short: threads that write one take longer than the writing.
                    ("output_format_parallel_formatting", "0"),
                    // What has just come is small, and read as a whole. The index of cells is made when
                    // it is merged with more.
                    ("exclude_materialize_skip_indexes_on_insert", "cells"),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
            ),
            users: vec![
                user("default", "admin", false),
                user("reader", "reader", true),
            ],
            telemetry: TelemetrySettings::default(),
        }
    }
}

impl Validate for Settings {
    fn validate(&self) -> Result<(), String> {
        self.telemetry.validate()?;
        if self.max_server_memory < 512 * MIB {
            return Err("max_server_memory must be at least 536870912 (512 MiB)".to_owned());
        }
        if self.max_query_memory == 0 || self.max_query_memory > self.max_server_memory {
            return Err("max_query_memory must lie between 1 and max_server_memory".to_owned());
        }
        if self.max_body_memory < MIB || self.max_body_memory > 64 * 1024 * MIB {
            return Err("max_body_memory must lie between 1 MiB and 64 GiB".to_owned());
        }
        if self.max_materialized_result == 0 {
            return Err("max_materialized_result must be at least 1".to_owned());
        }
        if !(1..=400).contains(&self.max_concurrent_queries) {
            return Err("max_concurrent_queries must lie between 1 and 400".to_owned());
        }
        if self.max_sessions == 0 {
            return Err("max_sessions must be at least 1".to_owned());
        }
        if self.client_timeout == 0 {
            return Err("client_timeout must be at least 1 (second)".to_owned());
        }
        for name in self.defaults.keys() {
            if !crate::sql::is_setting_name(name) {
                return Err(format!(
                    "defaults.{name}: not the name of an engine setting"
                ));
            }
        }
        if self.users.is_empty() {
            return Err("users must name at least one user".to_owned());
        }
        for (at, user) in self.users.iter().enumerate() {
            if user.name.is_empty() {
                return Err(format!("users[{at}].name must not be empty"));
            }
            if self.users[..at].iter().any(|other| other.name == user.name) {
                return Err(format!("users[{at}].name: {} is there twice", user.name));
            }
            if let Some((name, _)) = user.limits.set().find(|(_, value)| *value == 0) {
                return Err(format!(
                    "users[{at}] ({}): limits.{name} must be at least 1; leave it out for no limit",
                    user.name
                ));
            }
            if user.max_concurrent_queries == Some(0) {
                return Err(format!(
                    "users[{at}] ({}): max_concurrent_queries must be at least 1; leave it out for \
                     no limit",
                    user.name
                ));
            }
            let given = [
                user.password.is_some(),
                user.password_file.is_some(),
                user.password_sha256_hex.is_some(),
            ];
            if given.into_iter().filter(|given| *given).count() != 1 {
                return Err(format!(
                    "users[{at}] ({}): give exactly one of password, password_file, \
                     password_sha256_hex",
                    user.name
                ));
            }
        }
        Ok(())
    }
}
