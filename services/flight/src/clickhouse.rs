//! How contrail reaches ClickHouse: settings, and the client that they make.

use std::path::PathBuf;

use clickhouse::Client;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};

use crate::config::{Secret, read_secret};
use crate::tls::TlsSettings;

/// Password of the local stack's user.
const DEFAULT_PASSWORD: &str = "admin";
/// A connection that is idle for longer may have been closed by the server, whose own limit
/// (`keep_alive_timeout`) is 3 s at the least.
const POOL_IDLE: std::time::Duration = std::time::Duration::from_secs(2);

/// How to reach ClickHouse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClickhouseSettings {
    /// URL of the HTTP interface, `http://host:8123` or `https://host:8443`. One address: several
    /// servers belong behind a load balancer.
    pub url: String,
    /// User.
    pub user: String,
    /// Password.
    pub password: Secret,
    /// File that holds the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Longest wait for an insert to be acknowledged, in milliseconds. The server is told not to
    /// execute an insert that is older than this.
    pub insert_timeout_ms: u64,
    /// Longest wait for a query, in milliseconds.
    pub query_timeout_ms: u64,
    /// For `https`.
    pub tls: TlsSettings,
}

impl Default for ClickhouseSettings {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8123".into(),
            user: "default".into(),
            password: Secret::new(DEFAULT_PASSWORD),
            password_file: None,
            insert_timeout_ms: 30_000,
            query_timeout_ms: 60_000,
            tls: TlsSettings::default(),
        }
    }
}

impl ClickhouseSettings {
    /// Reads the password from its file. `setting` is the name of these settings.
    ///
    /// # Errors
    /// A sentence that names the setting and the file.
    pub fn read_secrets(&mut self, setting: &str) -> Result<(), String> {
        if self.password_file.is_some() && self.password.expose() == DEFAULT_PASSWORD {
            self.password = Secret::default();
        }
        read_secret(
            &format!("{setting}.password"),
            &mut self.password,
            self.password_file.as_deref(),
        )
    }

    /// # Errors
    /// A sentence that names the setting.
    pub fn validate(&self, setting: &str) -> Result<(), String> {
        self.tls.validate_with_url(setting, &self.url)?;
        if self.user.is_empty() {
            return Err(format!("{setting}.user is empty"));
        }
        if self.insert_timeout_ms < 1000 || self.query_timeout_ms < 1000 {
            return Err(format!(
                "{setting}.insert_timeout_ms and {setting}.query_timeout_ms must be at least 1000"
            ));
        }
        Ok(())
    }

    /// A client. Nothing is asked of the server yet.
    ///
    /// # Errors
    /// A file of the TLS settings cannot be used.
    pub fn client(&self, setting: &str) -> Result<Client, String> {
        let client = if self.url.starts_with("https:") {
            let connector = self.tls.connector(&format!("{setting}.tls"))?;
            let mut http = HttpConnector::new();
            http.enforce_http(false);
            http.set_nodelay(true);
            http.set_keepalive(Some(std::time::Duration::from_secs(60)));
            let https = hyper_tls::HttpsConnector::from((http, connector.into()));
            let pool = HttpClient::builder(TokioExecutor::new())
                .pool_idle_timeout(POOL_IDLE)
                .build(https);
            Client::with_http_client(pool)
        } else {
            Client::default()
        };
        Ok(client
            .with_url(&self.url)
            .with_user(&self.user)
            .with_password(self.password.expose())
            .with_validation(false))
    }
}

/// What to do about an error of ClickHouse, by its code, where that is the operator's to do.
pub fn advice(code: u32) -> Option<&'static str> {
    Some(match code {
        // ACCESS_DENIED; the message names the grant.
        497 => "grant it to the user, see docs/external.md",
        // AUTHENTICATION_FAILED, REQUIRED_PASSWORD, WRONG_PASSWORD, UNKNOWN_USER
        516 | 194 | 193 | 192 => "clickhouse.user and clickhouse.password are not what it knows",
        // READONLY
        164 => "the user may only read: give it a profile with readonly = 0",
        // UNKNOWN_DATABASE
        81 => "create it, or let a user who may run `flight-ingester migrate`",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_file_takes_the_place_of_the_default_and_of_nothing_else() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from the file\n").unwrap();
        let mut settings = ClickhouseSettings {
            password_file: Some(file.path().to_owned()),
            ..ClickhouseSettings::default()
        };
        settings.read_secrets("clickhouse").unwrap();
        assert_eq!(settings.password.expose(), "from the file");
        settings.password = Secret::new("given too");
        let message = settings.read_secrets("clickhouse").unwrap_err();
        assert!(message.contains("clickhouse.password_file"), "{message}");
        assert!(!message.contains("given too"), "{message}");
    }
}
