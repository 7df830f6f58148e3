//! Settings: a documented serde struct, filled from its defaults, a TOML file and the environment,
//! in this order. Unknown names are refused, so that a typo never passes for a default.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// What is wrong with the settings.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file that `--config` names does not exist.
    #[error(
        "configuration file {0} does not exist: give --config the right path, or leave it out to run on defaults"
    )]
    Missing(PathBuf),
    /// A value has the wrong type, a name is unknown, the file is not TOML.
    #[error("{0}")]
    Invalid(String),
    /// Each value is well formed, but they make no sense.
    #[error("setting {0}")]
    Senseless(String),
}

/// Rules beyond types: ranges, and settings that only make sense together.
pub trait Validate {
    /// Reads the secrets that are given as files. Called before [`validate`](Self::validate).
    ///
    /// # Errors
    /// A sentence that begins with the name of the setting that must change.
    fn read_secrets(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// # Errors
    /// A sentence that begins with the name of the setting that must change.
    fn validate(&self) -> Result<(), String>;
}

/// Reads settings: defaults, then the file, then environment variables that start with
/// `env_prefix` (`FLIGHT_MOCK_FLEET=1000`; tables with a double underscore:
/// `FLIGHT_PRODUCER_KAFKA__BROKERS=…`).
///
/// # Errors
/// See [`ConfigError`]; every message names the setting and where it was given.
pub fn load<S>(env_prefix: &str, file: Option<&Path>) -> Result<S, ConfigError>
where
    S: Default + Serialize + DeserializeOwned + Validate,
{
    let mut figment = Figment::from(Serialized::defaults(S::default()));
    if let Some(path) = file {
        if !path.is_file() {
            return Err(ConfigError::Missing(path.to_owned()));
        }
        figment = figment.merge(Toml::file_exact(path));
    }
    let variables = Env::prefixed(env_prefix).split("__");
    figment = figment.merge(variables.clone());
    // Taken as they stand: a password of digits is not a number.
    for (name, value) in variables
        .iter()
        .filter(|(name, _)| is_secret(name.as_str()))
    {
        figment = figment.merge(Serialized::default(name.as_str(), value));
    }
    let mut settings: S = figment
        .extract()
        .map_err(|error| ConfigError::Invalid(explain(error, env_prefix)))?;
    settings.read_secrets().map_err(ConfigError::Senseless)?;
    settings.validate().map_err(ConfigError::Senseless)?;
    Ok(settings)
}

/// One line per problem: the setting's dotted name, what is wrong, and where it came from.
fn explain(errors: figment::Error, env_prefix: &str) -> String {
    errors
        .into_iter()
        .map(|error| {
            let origin = match &error.metadata {
                Some(metadata) if metadata.name.contains("environment") => {
                    format!(" (from the environment, {env_prefix}*)")
                }
                Some(metadata) => match &metadata.source {
                    Some(source) => format!(" (in {source})"),
                    None => String::new(),
                },
                None => String::new(),
            };
            let name = match error.path.join(".") {
                path if path.is_empty() => String::new(),
                path => format!("setting {path}: "),
            };
            format!("{name}{}{origin}", error.kind)
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// True for settings whose values are for nobody's eyes, by the last part of their names: `password`,
/// `token`, `sasl.password`, but not `password_file`.
pub(crate) fn is_secret(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    ["password", "token", "secret", "secret_key", "pem"].contains(&last)
}

/// Takes a secret from its file, where one is given. `setting` is the name under which it can be
/// given in the clear; its file's setting is named the same with `_file` behind.
///
/// # Errors
/// A sentence that names the setting and the file: both are given, the file cannot be read, or holds
/// nothing.
pub fn read_secret(setting: &str, secret: &mut Secret, file: Option<&Path>) -> Result<(), String> {
    let Some(path) = file else {
        return Ok(());
    };
    if !secret.is_empty() {
        return Err(format!(
            "{setting} and {setting}_file are both set: leave one out"
        ));
    }
    *secret = Secret::from_file(&format!("{setting}_file"), path)?;
    if secret.is_empty() {
        return Err(format!("{setting}_file: {} is empty", path.display()));
    }
    Ok(())
}

/// A password or token. It shows itself in no log and in no error.
#[derive(Clone, Default, Serialize, serde::Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads a secret from a file, without the line end that editors leave.
    ///
    /// # Errors
    /// A sentence that names the setting and the file.
    pub fn from_file(setting: &str, path: &Path) -> Result<Self, String> {
        std::fs::read_to_string(path)
            .map(|text| Self(text.trim_end_matches(['\r', '\n']).to_owned()))
            .map_err(|error| format!("{setting}: cannot read {}: {error}", path.display()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() {
            "Secret(empty)"
        } else {
            "Secret(***)"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        fleet: u32,
        kafka: Kafka,
    }
    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Kafka {
        brokers: String,
        password: Secret,
    }
    impl Default for Settings {
        fn default() -> Self {
            Self {
                fleet: 10,
                kafka: Kafka::default(),
            }
        }
    }
    impl Default for Kafka {
        fn default() -> Self {
            Self {
                brokers: "127.0.0.1:9092".into(),
                password: Secret::default(),
            }
        }
    }
    impl Validate for Settings {
        fn validate(&self) -> Result<(), String> {
            if self.fleet == 0 {
                Err("fleet must be at least 1".into())
            } else {
                Ok(())
            }
        }
    }

    fn with_file(text: &str) -> Result<Settings, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings.toml");
        std::fs::write(&path, text).unwrap();
        load("CONFIG_TEST_NOTHING_", Some(&path))
    }

    #[test]
    fn the_file_overrides_defaults() {
        let settings = with_file("[kafka]\nbrokers = \"broker:1\"").unwrap();
        assert_eq!(settings.fleet, 10);
        assert_eq!(settings.kafka.brokers, "broker:1");
    }

    #[test]
    fn a_typo_is_refused_and_named() {
        let message = with_file("fleat = 3").unwrap_err().to_string();
        assert!(
            message.contains("fleat") && message.contains("settings.toml"),
            "{message}"
        );
        let message = with_file("[kafka]\nbroker = \"x\"")
            .unwrap_err()
            .to_string();
        assert!(message.contains("broker"), "{message}");
    }

    #[test]
    fn wrong_types_senseless_values_and_missing_files_are_named() {
        let message = with_file("fleet = \"many\"").unwrap_err().to_string();
        assert!(message.contains("setting fleet"), "{message}");
        let message = with_file("fleet = 0").unwrap_err().to_string();
        assert_eq!(message, "setting fleet must be at least 1");
        let message = load::<Settings>("X_", Some(Path::new("/nowhere.toml")))
            .unwrap_err()
            .to_string();
        assert!(message.contains("/nowhere.toml"), "{message}");
    }

    #[test]
    fn a_password_of_digits_comes_through_the_environment_as_it_stands() {
        // SAFETY: no other thread reads or writes this variable.
        unsafe { std::env::set_var("CONFIG_TEST_DIGITS_KAFKA__PASSWORD", "007") };
        let settings: Settings = load("CONFIG_TEST_DIGITS_", None).unwrap();
        assert_eq!(settings.kafka.password.expose(), "007");
    }

    #[test]
    fn a_secret_comes_from_its_file_or_the_file_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |text: &str, given: &str, path: &Path| {
            std::fs::write(file.path(), text).unwrap();
            let mut secret = Secret::new(given);
            read_secret("kafka.sasl.password", &mut secret, Some(path)).map(|()| secret)
        };
        let secret = read("s3cret\n", "", file.path()).unwrap();
        assert_eq!(secret.expose(), "s3cret");
        for (text, given, path, named) in [
            ("x", "given", file.path(), "both set"),
            ("\n", "", file.path(), "is empty"),
            ("x", "", Path::new("/nowhere"), "cannot read /nowhere"),
        ] {
            let message = read(text, given, path).unwrap_err();
            assert!(
                message.starts_with("kafka.sasl.password") && message.contains(named),
                "{message}"
            );
        }
    }

    #[test]
    fn a_secret_shows_itself_to_no_log() {
        assert_eq!(format!("{:?}", Secret::new("admin")), "Secret(***)");
    }
}
