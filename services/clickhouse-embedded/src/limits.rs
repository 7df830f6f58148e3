//! What a user's queries may cost at most, as a server's settings profile with constraints says it.

use serde::{Deserialize, Serialize};

/// The engine's profile that holds the constraints of the user at this place in the settings.
pub fn profile(user: usize) -> String {
    format!("limits_{user}")
}

/// Limits of each query of a user. What is not set has no limit of the user's own.
///
/// Every limit is a setting of the engine's of the same name. A query may ask for less; who asks for
/// more, or for no limit (0), is refused with code 452.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Seconds that a query may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_execution_time: Option<u64>,
    /// Bytes of memory that a query may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_memory_usage: Option<u64>,
    /// Rows that a query may read from tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rows_to_read: Option<u64>,
    /// Bytes that a query may read from tables, before compression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes_to_read: Option<u64>,
    /// Rows of a result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_result_rows: Option<u64>,
    /// Bytes of a result, in the engine's memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_result_bytes: Option<u64>,
    /// Threads of a query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_threads: Option<u64>,
}

impl Limits {
    /// Names and values of the limits that are set.
    pub fn set(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("max_execution_time", self.max_execution_time),
            ("max_memory_usage", self.max_memory_usage),
            ("max_rows_to_read", self.max_rows_to_read),
            ("max_bytes_to_read", self.max_bytes_to_read),
            ("max_result_rows", self.max_result_rows),
            ("max_result_bytes", self.max_result_bytes),
            ("max_threads", self.max_threads),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.set().next().is_none()
    }

    /// The limit on this setting.
    pub fn of(&self, setting: &str) -> Option<u64> {
        self.set()
            .find(|(name, _)| *name == setting)
            .map(|(_, value)| value)
    }
}
