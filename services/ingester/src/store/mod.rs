//! ClickHouse as the ingester sees it: insert a batch under a token, ask which identities are there.

mod identity;
mod insert;

pub(crate) use identity::quoted;
pub(crate) use insert::now_ms;

use std::time::Duration;

use clickhouse::{Client, Compression};
use thiserror::Error;

use flight::clickhouse::{ClickhouseSettings, advice};
use flight::tls;

/// Database of everything.
pub const DATABASE: &str = "flight_data";
/// Table into which positions are inserted, by its name in the database.
pub const TABLE: &str = "flight_positions";
/// The same with the database.
pub const POSITIONS: &str = "flight_data.flight_positions";
/// Every table that may hold an event: a look-up by identity asks all of them.
pub const TABLES: [&str; 2] = [POSITIONS, "flight_data.flight_positions_monthly"];

/// ClickHouse refuses, or does not answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It answered with an error. Nothing of the request was executed, or not all of it.
    #[error("ClickHouse at {url} refuses {action}: {message}")]
    Refused {
        /// The server.
        url: String,
        /// What was asked.
        action: &'static str,
        /// ClickHouse's error code, 0 where the answer has none.
        code: u32,
        /// ClickHouse's message.
        message: String,
    },
    /// It did not answer, or not in time: whether the request was executed is not known.
    #[error("ClickHouse at {url} is away ({action}): {reason}")]
    Away {
        /// The server.
        url: String,
        /// What was asked.
        action: &'static str,
        /// What happened.
        reason: String,
    },
    /// A file that the settings name cannot be used.
    #[error("{0}")]
    Settings(String),
}

impl StoreError {
    /// All values of [`kind`](Self::kind).
    pub const KINDS: [&'static str; 3] = ["refused", "away", "settings"];

    /// For the metric label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::Away { .. } => "away",
            Self::Settings(_) => "settings",
        }
    }
}

/// A connection pool to one server.
#[derive(Clone)]
pub struct Store {
    client: Client,
    url: String,
    insert_timeout: Duration,
    query_timeout: Duration,
    insert_sql: String,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// A store for `settings`. Nothing is asked of the server yet.
    ///
    /// # Errors
    /// A file of the TLS settings cannot be used.
    pub fn new(settings: &ClickhouseSettings) -> Result<Self, StoreError> {
        let client = settings
            .client("clickhouse")
            .map_err(StoreError::Settings)?
            .with_product_info("flight-ingester", env!("CARGO_PKG_VERSION"))
            // Compressing costs more than sending, next door and on a local network.
            .with_compression(Compression::None);
        Ok(Self {
            client,
            url: settings.url.clone(),
            insert_timeout: Duration::from_millis(settings.insert_timeout_ms),
            query_timeout: Duration::from_millis(settings.query_timeout_ms),
            insert_sql: insert::statement(),
        })
    }

    /// The server's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs one statement that returns nothing.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn execute(&self, action: &'static str, sql: &str) -> Result<(), StoreError> {
        self.limited(action, self.client.query_raw(sql).execute())
            .await
    }

    /// Runs one query and returns all its rows.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn rows<T>(&self, action: &'static str, sql: &str) -> Result<Vec<T>, StoreError>
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        self.limited(action, self.client.query_raw(sql).fetch_all::<T>())
            .await
    }

    /// Asks for a sign of life, with the user and password of the settings.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.rows::<u8>("ping", "SELECT 1::UInt8").await.map(drop)
    }

    async fn limited<T>(
        &self,
        action: &'static str,
        request: impl Future<Output = clickhouse::error::Result<T>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.query_timeout, request).await {
            Ok(result) => result.map_err(|error| self.explain(action, error)),
            Err(_) => Err(StoreError::Away {
                url: self.url.clone(),
                action,
                reason: format!("no answer within {} s", self.query_timeout.as_secs()),
            }),
        }
    }

    fn explain(&self, action: &'static str, error: clickhouse::error::Error) -> StoreError {
        match error {
            clickhouse::error::Error::BadResponse(message) => {
                let code = error_code(&message);
                let advice = advice(code).map_or(String::new(), |advice| format!(" ({advice})"));
                let message = format!("{}{advice}", message.trim());
                StoreError::Refused {
                    url: self.url.clone(),
                    action,
                    code,
                    message,
                }
            }
            other => StoreError::Away {
                url: self.url.clone(),
                action,
                reason: tls::explain(&other, &self.url, "clickhouse.tls.ca_file"),
            },
        }
    }
}

/// The number in `Code: 516. DB::Exception: …`.
fn error_code(message: &str) -> u32 {
    let digits = message.split_once("Code: ").map_or("", |(_, rest)| rest);
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operator_can_do_is_said() {
        let store = Store::new(&ClickhouseSettings::default()).unwrap();
        for (answer, code, advice) in [
            (
                "Code: 497. DB::Exception: flight: Not enough privileges. To execute this query, it's necessary to have the grant INSERT(a) ON flight_data.flight_positions. (ACCESS_DENIED)",
                497,
                "grant it to the user, see docs/external.md",
            ),
            (
                "Code: 516. DB::Exception: flight: Authentication failed",
                516,
                "clickhouse.user and clickhouse.password",
            ),
        ] {
            let error = clickhouse::error::Error::BadResponse(answer.to_owned());
            let error = store.explain("insert", error);
            assert!(matches!(error, StoreError::Refused { code: found, .. } if found == code));
            let text = error.to_string();
            assert!(text.contains(answer) && text.contains(advice), "{text}");
        }
    }

    #[test]
    fn the_code_is_read_from_the_message() {
        assert_eq!(
            super::error_code("Code: 516. DB::Exception: default: Authentication failed"),
            516
        );
        assert_eq!(super::error_code("Bad gateway"), 0);
    }
}
