//! A client of the schema registry's Confluent API, which Apicurio speaks too under another base
//! path.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use thiserror::Error;

use crate::backoff::Backoff;
use crate::config::{Secret, read_secret};
use crate::root_cause;
use crate::tls::{self, TlsSettings};

/// How to reach the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistrySettings {
    /// Base of the Confluent API: `http://host:8081` for Confluent's own,
    /// `http://host:8081/apis/ccompat/v7` for Apicurio.
    pub url: String,
    /// User for basic authentication; empty for none.
    pub user: String,
    /// Password for basic authentication.
    pub password: Secret,
    /// File that holds the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Token for bearer authentication, in place of user and password.
    pub token: Secret,
    /// File that holds the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Longest wait for one answer, in milliseconds.
    pub timeout_ms: u64,
    /// How often a request that failed for a passing reason is tried in all.
    pub attempts: u32,
    /// For `https`.
    pub tls: TlsSettings,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8081/apis/ccompat/v7".into(),
            user: String::new(),
            password: Secret::default(),
            password_file: None,
            token: Secret::default(),
            token_file: None,
            timeout_ms: 5_000,
            attempts: 3,
            tls: TlsSettings::default(),
        }
    }
}

impl RegistrySettings {
    /// Reads password and token from their files. `setting` is the name of these settings.
    ///
    /// # Errors
    /// A sentence that names the setting and the file.
    pub fn read_secrets(&mut self, setting: &str) -> Result<(), String> {
        let name = format!("{setting}.password");
        read_secret(&name, &mut self.password, self.password_file.as_deref())?;
        let name = format!("{setting}.token");
        read_secret(&name, &mut self.token, self.token_file.as_deref())
    }

    /// # Errors
    /// A sentence that names the setting.
    pub fn validate(&self, setting: &str) -> Result<(), String> {
        self.tls.validate_with_url(setting, &self.url)?;
        if self.user.is_empty() && !self.password.is_empty() {
            return Err(format!(
                "{setting}.user is empty: {setting}.password needs one"
            ));
        }
        if !self.user.is_empty() && !self.token.is_empty() {
            return Err(format!(
                "{setting}.token is set beside {setting}.user: leave one out"
            ));
        }
        if self.attempts == 0 || self.timeout_ms == 0 {
            return Err(format!(
                "{setting}.attempts and {setting}.timeout_ms must be at least 1"
            ));
        }
        Ok(())
    }
}

/// The registry cannot answer, or will not.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// It does not answer, or answers with a fault of its own: try again later.
    #[error("schema registry {url} is away: {reason}")]
    Away {
        /// Base path.
        url: String,
        /// What happened.
        reason: String,
    },
    /// It knows no schema with this id.
    #[error("schema registry {url} has no schema with id {id}")]
    UnknownId {
        /// Base path.
        url: String,
        /// The id.
        id: u32,
    },
    /// It refuses the request: trying again does not help.
    #[error("schema registry {url} refuses {action}: {status} {reason}")]
    Refused {
        /// Base path.
        url: String,
        /// What was asked.
        action: String,
        /// HTTP status.
        status: u16,
        /// The registry's message.
        reason: String,
    },
}

impl RegistryError {
    /// True if the same request may succeed later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

/// A client that remembers every schema it has seen: ids never change their meaning.
#[derive(Debug)]
pub struct RegistryClient {
    http: Client,
    base: String,
    settings: RegistrySettings,
    by_id: Mutex<HashMap<u32, Arc<str>>>,
}

#[derive(Deserialize)]
struct IdAnswer {
    id: u32,
}

#[derive(Deserialize)]
struct SchemaAnswer {
    schema: String,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    #[serde(default)]
    error_code: u32,
    #[serde(default)]
    message: String,
}

impl RegistryClient {
    /// A client for `settings`. Nothing is asked of the registry yet.
    ///
    /// # Errors
    /// The HTTP client cannot be built: a file of the TLS settings cannot be used.
    pub fn new(settings: &RegistrySettings) -> Result<Self, RegistryError> {
        let base = settings.url.trim_end_matches('/').to_owned();
        let unusable = |reason: String| RegistryError::Away {
            url: base.clone(),
            reason,
        };
        let http = settings
            .tls
            .http_client("registry.tls")
            .map_err(unusable)?
            .timeout(Duration::from_millis(settings.timeout_ms))
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self {
            http,
            base,
            settings: settings.clone(),
            by_id: Mutex::default(),
        })
    }

    /// Registers a schema and asks that all later ones of the subject can read what it wrote
    /// (BACKWARD). Registering what is there already gives its id again.
    ///
    /// # Errors
    /// The registry is away, or finds the schema incompatible with the subject's earlier ones.
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let action = format!("schema for {subject}");
        let body = json!({ "schema": schema, "schemaType": "AVRO" });
        let path = format!("/subjects/{subject}/versions");
        let IdAnswer { id } = self.ask(Method::POST, &path, Some(body), &action).await?;
        let body = json!({ "compatibility": "BACKWARD" });
        let path = format!("/config/{subject}");
        let action = format!("BACKWARD compatibility for {subject}");
        let _: serde_json::Value = self.ask(Method::PUT, &path, Some(body), &action).await?;
        self.remember(id, schema.into());
        Ok(id)
    }

    /// The schema with an id, from memory where it was asked before.
    ///
    /// # Errors
    /// The registry is away, or has no such id.
    pub async fn schema_by_id(&self, id: u32) -> Result<Arc<str>, RegistryError> {
        if let Some(schema) = self.lock().get(&id) {
            return Ok(schema.clone());
        }
        let path = format!("/schemas/ids/{id}");
        let answer = self
            .ask::<SchemaAnswer>(Method::GET, &path, None, &format!("schema id {id}"))
            .await;
        match answer {
            Ok(SchemaAnswer { schema }) => Ok(self.remember(id, schema.into())),
            // 40403 is the Confluent API's code for an unknown schema.
            Err(RegistryError::Refused { status: 404, .. }) => Err(RegistryError::UnknownId {
                url: self.base.clone(),
                id,
            }),
            Err(error) => Err(error),
        }
    }

    /// Asks for the registry's subjects: a cheap sign of life.
    ///
    /// # Errors
    /// The registry is away or refuses.
    pub async fn ping(&self) -> Result<(), RegistryError> {
        let _: serde_json::Value = self
            .ask(Method::GET, "/subjects", None, "list of subjects")
            .await?;
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Arc<str>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, id: u32, schema: Arc<str>) -> Arc<str> {
        self.lock().entry(id).or_insert(schema).clone()
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
        action: &str,
    ) -> Result<T, RegistryError> {
        let mut backoff = Backoff::default();
        loop {
            let error = match self
                .ask_once(method.clone(), path, body.as_ref(), action)
                .await
            {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let delay = backoff.next_delay();
            if !error.is_passing() || backoff.failures() >= self.settings.attempts {
                return Err(error);
            }
            tokio::time::sleep(delay).await;
        }
    }

    async fn ask_once<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
        action: &str,
    ) -> Result<T, RegistryError> {
        let away = |reason: String| RegistryError::Away {
            url: self.base.clone(),
            reason,
        };
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if !self.settings.user.is_empty() {
            request =
                request.basic_auth(&self.settings.user, Some(self.settings.password.expose()));
        } else if !self.settings.token.is_empty() {
            request = request.bearer_auth(self.settings.token.expose());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request
            .send()
            .await
            .map_err(|error| away(tls::explain(&error, &self.base, "registry.tls.ca_file")))?;
        let status = answer.status();
        let text = answer
            .bytes()
            .await
            .map_err(|error| away(root_cause(&error)))?;
        if status.is_success() {
            // An answer that cannot be read is a fault of the registry (or of a proxy before it).
            return serde_json::from_slice(&text)
                .map_err(|error| away(format!("{action}: {error}")));
        }
        let told: ErrorAnswer = serde_json::from_slice(&text).unwrap_or_else(|_| ErrorAnswer {
            error_code: 0,
            message: String::from_utf8_lossy(&text).chars().take(200).collect(),
        });
        let passing = status.is_server_error()
            || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status)
            // A 404 without a Confluent code comes from a proxy, or a registry that is starting.
            || (status == StatusCode::NOT_FOUND && told.error_code == 0);
        if passing {
            return Err(away(format!("{action}: {status} {}", told.message)));
        }
        let advice = match status {
            StatusCode::UNAUTHORIZED => {
                " (registry.user and registry.password, or registry.token, are not what it knows)"
            }
            StatusCode::FORBIDDEN => " (the user may not do this: grant it there)",
            _ => "",
        };
        Err(RegistryError::Refused {
            url: self.base.clone(),
            action: action.to_owned(),
            status: status.as_u16(),
            reason: format!("{}{advice}", told.message),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Json;
    use axum::extract::State;
    use axum::http::HeaderMap;
    use axum::response::IntoResponse;
    use axum::routing::{get, post, put};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A registry that fails `failures` times, then answers, and counts what it was asked.
    #[derive(Clone, Default)]
    struct Fake {
        failures: Arc<AtomicU32>,
        asked: Arc<AtomicU32>,
        authorization: Arc<Mutex<Option<String>>>,
    }

    impl Fake {
        fn fails(&self) -> bool {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.failures
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_ok()
        }
    }

    async fn start(fake: Fake) -> RegistrySettings {
        let app = axum::Router::new()
            .route(
                "/base/subjects/{subject}/versions",
                post(|State(fake): State<Fake>, headers: HeaderMap| async move {
                    *fake.authorization.lock().unwrap() = headers
                        .get("authorization")
                        .map(|value| value.to_str().unwrap().to_owned());
                    if fake.fails() {
                        return (axum::http::StatusCode::INTERNAL_SERVER_ERROR, "oh")
                            .into_response();
                    }
                    Json(json!({"id": 7})).into_response()
                }),
            )
            .route(
                "/base/config/{subject}",
                put(|Json(body): Json<serde_json::Value>| async move { Json(body) }),
            )
            .route(
                "/base/schemas/ids/{id}",
                get(
                    |State(fake): State<Fake>, id: axum::extract::Path<u32>| async move {
                        if fake.fails() {
                            return (axum::http::StatusCode::SERVICE_UNAVAILABLE, "oh")
                                .into_response();
                        }
                        if *id == 7 {
                            Json(json!({"schema": "\"string\""})).into_response()
                        } else {
                            let body = Json(json!({"error_code": 40403, "message": "no"}));
                            (axum::http::StatusCode::NOT_FOUND, body).into_response()
                        }
                    },
                ),
            )
            .with_state(fake);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/base/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        RegistrySettings {
            url,
            user: "u".into(),
            password: Secret::new("p"),
            ..RegistrySettings::default()
        }
    }

    #[tokio::test]
    async fn a_passing_fault_is_tried_again_and_the_user_is_named() {
        let fake = Fake {
            failures: Arc::new(2.into()),
            ..Fake::default()
        };
        let client = RegistryClient::new(&start(fake.clone()).await).unwrap();
        assert_eq!(client.register("s-value", "\"string\"").await.unwrap(), 7);
        assert_eq!(fake.asked.load(Ordering::SeqCst), 3);
        assert_eq!(
            fake.authorization.lock().unwrap().as_deref(),
            Some("Basic dTpw")
        );
        client.schema_by_id(7).await.unwrap();
        assert_eq!(
            fake.asked.load(Ordering::SeqCst),
            3,
            "what was registered is remembered"
        );
    }

    #[tokio::test]
    async fn schemas_are_asked_for_once_and_unknown_ids_are_told_from_an_absent_registry() {
        let fake = Fake::default();
        let settings = start(fake.clone()).await;
        let client = RegistryClient::new(&settings).unwrap();
        for _ in 0..3 {
            assert_eq!(&*client.schema_by_id(7).await.unwrap(), "\"string\"");
        }
        assert_eq!(fake.asked.load(Ordering::SeqCst), 1);
        let error = client.schema_by_id(8).await.unwrap_err();
        assert!(
            matches!(error, RegistryError::UnknownId { id: 8, .. }),
            "{error}"
        );

        fake.failures.store(100, Ordering::SeqCst);
        let error = client.schema_by_id(9).await.unwrap_err();
        assert!(error.is_passing(), "{error}");

        let nobody = RegistrySettings {
            url: "http://127.0.0.1:1".into(),
            attempts: 1,
            ..settings
        };
        let error = RegistryClient::new(&nobody)
            .unwrap()
            .ping()
            .await
            .unwrap_err();
        assert!(
            error.is_passing() && error.to_string().contains("127.0.0.1:1"),
            "{error}"
        );
    }
}
